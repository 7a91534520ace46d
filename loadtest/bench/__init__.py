"""`make bench`: the system against its peers, in one run on one machine, client included."""
