"""What keys begin with that are no answers: no prefix of a user's may be one of these."""

TAG = "tag:"  # the epochs that make tagged answers valid
LOCK = "lock:"  # who makes a call, between processes
FORGOTTEN = "forgotten:"  # marks of invalidations, for calls that are under way elsewhere

OWN = (TAG, LOCK, FORGOTTEN)
