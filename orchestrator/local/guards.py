"""Guard processes that die are replaced: without one, a SIGKILL of this process leaves trainers."""

from __future__ import annotations

from merge.errors import SystemLimitError
from orchestrator.local.outcomes import OutcomeLog
from orchestrator.machine.process import Guardian

_MOST_GUARDS = 20
"""Where guards die as soon as they start, restarting them forever would keep the machine busy."""


class Guards:
    """Starts a new guard where one has died, at once or as soon as the system gives a process."""

    def __init__(self, guardian: Guardian, outcomes: OutcomeLog) -> None:
        self._guardian = guardian
        self._outcomes = outcomes
        self._num_guards = 1
        self._is_missing = self._is_refused = False

    def replace(self) -> None:
        """The guard has died: start another one."""
        self._num_guards += 1
        if self._num_guards > _MOST_GUARDS:
            self._outcomes.notice(
                "guard processes keep dying: if this process is killed, the next invocation kills "
                "the trainers that it leaves"
            )
            return
        self._is_missing = True
        self.tick()

    def tick(self) -> None:
        """Start the guard that could not be started so far."""
        if not self._is_missing:
            return
        try:
            self._guardian.restart()
        # Without a guard all goes on: it is tried again at the next tick.
        except SystemLimitError:
            return
        # Such as an environment that was removed, or lies on a file server that is away.
        except OSError as error:
            if not self._is_refused:
                self._is_refused = True
                self._outcomes.notice(f"the guard process had died and cannot be replaced: {error}")
            return
        self._is_missing = self._is_refused = False
        self._outcomes.notice("the guard process had died; a new one was started")
