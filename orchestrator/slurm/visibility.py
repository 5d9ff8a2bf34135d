"""Which tasks SLURM would show here: what it does not show has not thereby ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from merge.errors import SchedulerError, UsageError
from orchestrator.runs.requests import user_name
from orchestrator.slurm.commands import QUERY_TIMEOUT_S, ClusterSettings, cluster_settings


@dataclass(frozen=True, slots=True)
class Sender:
    """Who submitted a task, and to which cluster."""

    by: str
    cluster: str
    """Empty where its record does not say."""


def hidden_tasks(senders: Mapping[str, Sender]) -> dict[str, str]:
    """Those of the absent tasks (id -> sender) that SLURM would not show here, and the reason.

    The cluster is asked for its settings only where a task is absent.
    """
    if not senders:
        return {}
    me = user_name()
    try:
        settings = cluster_settings(QUERY_TIMEOUT_S)
    except (SchedulerError, UsageError) as error:
        reason = f"SLURM does not say whether it shows all jobs ({error})"
        return dict.fromkeys(senders, reason)
    reasons = {sender: _why_hidden(sender, settings, me) for sender in set(senders.values())}
    return {task: reasons[sender] for task, sender in senders.items() if reasons[sender]}


def why_not_listed(users: Iterable[str]) -> str:
    """Why SLURM would not list the jobs of one of `users` here; empty where it lists them.

    SchedulerError where it gives no answer.
    """
    others = [user for user in users if _is_other(user, user_name())]
    if not others or not cluster_settings(QUERY_TIMEOUT_S).hides_jobs:
        return ""
    return (
        f"the job of a submission of {others[0]} was not recorded, and SLURM does not show you the "
        f"jobs of others (PrivateData=jobs): let {others[0]} submit again"
    )


def _why_hidden(sender: Sender, settings: ClusterSettings, me: str) -> str:
    if sender.cluster and settings.name and sender.cluster != settings.name:
        return (
            f"it is on the cluster {sender.cluster!r} and {settings.name!r} answers here: ask on a "
            f"host of {sender.cluster!r}"
        )
    if settings.hides_jobs and _is_other(sender.by, me):
        return (
            f"{sender.by} submitted it, and SLURM does not show you the jobs of others "
            f"(PrivateData=jobs): ask {sender.by}"
        )
    return ""


def _is_other(user: str, me: str) -> bool:
    # SLURM hides nothing from root.
    return me not in (user, "root")
