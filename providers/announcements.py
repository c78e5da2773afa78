"""Facts of this floor that others may want to tell. Sent inside the transaction of the fact, so that what a receiver
writes is there if and only if the fact is; what a receiver raises undoes both."""

from django.dispatch import Signal

# `provider`: a Provider; `before`, `health`: HealthState values; `note`: why, for people; `at`: a datetime.
provider_health_changed = Signal()
