"""Facts of this floor that others may want to tell. Sent inside the transaction of the fact, so that what a receiver
writes is there if and only if the fact is; what a receiver raises undoes both."""

from django.dispatch import Signal

# `key`: a VirtualKey; `by`: a User or None; `at`: a datetime.
key_revoked = Signal()
# `version`: the PolicyVersion that is in force for all requests from now on.
policy_published = Signal()
# `draft`: a PolicyDraft whose rollout stands at `draft.percent` from now on, 0: it was stopped; `at`: a datetime.
policy_rolled = Signal()
