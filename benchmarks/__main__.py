"""`python -m benchmarks`: what there is to measure, and how to run it."""

from __future__ import annotations

CONTENTS = """\
python -m benchmarks.languages --data DIR --seeds 3   trust schemes on French, German and Italian sentences
python -m benchmarks.rereading                        what one new line in a growing file costs
python -m benchmarks.batched_training                 peers trained in one pass against a loop over plain peft models
python -m benchmarks.speed                            our trainer against a bare loop of peft and AdamW
python -m benchmarks.live_speed                       the same of a worker in a live daemon with three neighbours
python -m benchmarks.precision                        training steps in bf16 against fp32, on this processor
python -m benchmarks.rows --data DIR                  rows of validation trust, exact and at first order
python -m benchmarks.validation_row                   what scoring the candidate adapters of a peer costs
python -m benchmarks.row_sampling --data DIR          how much text a validation row needs for the same final perplexity
python -m benchmarks.attacks --data DIR               what attackers do to honest peers, by scheme and defence
python -m benchmarks.never_worse --out RUNS           who ends worse than alone, in the demo and six settings
python -m benchmarks.mixed_bases                      what peers with bases in fp32, bf16, 8 and 4 bits gain
python -m benchmarks.sharing --out RUNS               what keeping A or B to oneself, and weak devices, cost and save
python -m benchmarks.codecs --data DIR --out RUNS     what fewer bytes an update cost in perplexity
python -m benchmarks.assemble --data DIR --out RUNS   what a newcomer's first adapter of others' pieces is worth
python -m benchmarks.privacy --data DIR               what private publishing costs, and what updates betray
python -m benchmarks.memory --shapes SHAPE ...        peak memory of each stage of a round, models of random weights
python -m benchmarks.mezo --data DIR                  training without gradients against AdamW: memory and loss
python -m benchmarks.serving                          how long an answer waits beside training, and what share it takes
python -m benchmarks.secrets --data DIR               what is taken for a secret in text that has none
python -m scripts.nano.report --data DIR          bits per byte of the embedded model
"""

if __name__ == "__main__":
    print(CONTENTS, end="")
