"""Query prediction (Eq. 1): P = phi_p(cat(mean of the support tokens, f_q))."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.fewshot.models.abcb.tokens import Tokens

_EVEN_ODDS_AT = 0.8
_LOGITS_PER_DISTANCE = 3.2


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

    def start_as_comparison(self) -> None:
        """Weights with which the prediction falls with the distance of f_q from the tokens' mean.

        The first layer's rows come in pairs w and -w and see f_q - mean, so that its ReLUs sum to
        |w (f_q - mean)|; the second layer counts that against the foreground. For cells of mean
        square 1 the odds are even at a root mean square distance of 0.8, a cosine of 0.68.
        """
        with torch.no_grad():
            channels = self.on_query.in_features
            rows = torch.empty((channels + 1) // 2, channels)
            nn.init.orthogonal_(rows)
            pairs = torch.cat([rows, -rows])[:channels]
            self.on_query.weight.copy_(pairs)
            self.on_mean.weight.copy_(-pairs)
            # |w d| of a unit row w is sqrt(2 / pi) times the root mean square of d, on average.
            per_distance = math.sqrt(2 / math.pi) * channels / 2
            slope, even = _LOGITS_PER_DISTANCE / 2, _LOGITS_PER_DISTANCE / 2 * _EVEN_ODDS_AT
            self.classify.weight.copy_(torch.tensor([[slope], [-slope]]) / per_distance)
            self.classify.bias.copy_(torch.tensor([-even, even]))
            self.on_query.bias.zero_()
