"""Configuration as files: written from the database, compared with it, and brought into it in one transaction."""
