"""Layer 2 of `make chaos`: a real installation, real clients that write down what they hear, and a nemesis.

One installation is set up and many faults are tried on it, one after the other, each in a *trial* of some seconds: the
crowd comes, the fault happens, is healed, the crowd comes to rest, more ask than there is, and the checker looks at
everything since the installation's first entry. The turnstiles are connected once and stay so through all trials.

What lives here: the installation (`park`), who asks it (`turnstiles`, `guests`, `desk`), what is done to it (`faults`
and the files beside it), one trial (`trial`), and rows for the table (`rows`). No promise is checked here: that is the
checker's alone. `python -m tests.chaos.processes --fault kill-owner --seed 3` runs one.
"""
