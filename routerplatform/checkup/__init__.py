"""What `manage.py doctor` looks at, a module for each kind of thing. Each check returns findings and never raises for
what it is there to find; none of them shows a secret."""
