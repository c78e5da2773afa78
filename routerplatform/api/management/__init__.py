"""The management API: what the admin’s pages do, for programs of people. docs/management-api.md tells how to use it."""
