"""How many GPUs Paddle sees: `python -m worker.inference.device_count`.

A process of its own, because Paddle keeps several hundred MB, which the parent of many workers does
not need.
"""

import subprocess
import sys

from shared.errors import EngineUnavailableError

TIMEOUT_S = 120.0


def count_gpus() -> int:
    """The number of GPUs that a worker on this machine or in this container can use.

    Raises EngineUnavailableError if Paddle cannot tell.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "worker.inference.device_count"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
        )
        return int(done.stdout.split()[-1])
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise EngineUnavailableError(f"Paddle can't count the GPUs: {last[0]}") from error
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        raise EngineUnavailableError(f"Paddle can't count the GPUs: {error}") from error


if __name__ == "__main__":
    import paddle

    count = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    sys.stdout.write(f"{count}\n")
