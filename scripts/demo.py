"""The main job on the embedded default, shown: supervised stage, preference training, samples with their reward.

Arguments are overrides of `dpo-lab train`.
"""

import sys

from dpo_lab.commands.demo import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
