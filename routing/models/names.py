"""What names look like that callers and people type."""

from django.core.validators import RegexValidator

slug_name = RegexValidator(
    r"^[a-z0-9][a-z0-9._-]*$", "Lower-case letters, digits, dot, dash and underscore; starts with a letter or digit."
)
callable_name = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$", "Letters, digits and . _ : / - only; starts with a letter or digit."
)
