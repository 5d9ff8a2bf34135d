"""Query prediction (Eq. 1): P = phi_p(cat(mean of the support tokens, f_q))."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from experiments.fewshot.models.abcb.tokens import Tokens


class QueryPrediction(nn.Module):
    """phi_p: two 1x1 convolutions, written as linear layers on the query's cells.

    The first acts on a concatenation whose f_q half is the same in every iteration, so that half is
    a layer of its own and runs once.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.on_query = nn.Linear(channels, channels)
        self.on_mean = nn.Linear(channels, channels, bias=False)
        self.classify = nn.Linear(channels, 2)

    def prepare(self, query_BNC: Tensor) -> Tensor:
        """The share of f_q in the first layer, B N C."""
        prepared_BNC: Tensor = self.on_query(query_BNC)
        return prepared_BNC

    def forward(self, support: Tokens, prepared_BNC: Tensor) -> Tensor:
        """Logits of background and foreground, B N 2."""
        hidden_BNC = functional.relu(prepared_BNC + self.on_mean(support.mean())[:, None])
        logits_BN2: Tensor = self.classify(hidden_BNC)
        return logits_BN2
