"""How a training hears that it shall stop."""

import signal


class StopRequest:
    """Ctrl-C, SIGTERM, the end of the terminal and SIGUSR2, by which Slurm warns, ask for a stop after the current step
    instead of breaking into it.
    """

    def __init__(self):
        self.requested = False
        hangup = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]  # nohup's wish
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, *hangup):
            signal.signal(number, self._request)

    def _request(self, number, frame):
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C does not wait
