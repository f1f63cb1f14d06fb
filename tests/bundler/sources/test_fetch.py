import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]


def test_a_local_file_does_not_wait_for_the_network_libraries(model: Path) -> None:
    source = (
        "import sys\n"
        "from pathlib import Path\n"
        "import bundler.cli\n"
        "from bundler.progress import Progress\n"
        "from bundler.sources.fetch import fetch\n"
        "from bundler.sources.model import Places\n"
        "assert fetch(sys.argv[1], Places(), Progress(sys.stderr)).size > 0\n"
        "print(sorted({'huggingface_hub', 'httpx2', 'pypi_simple', 'requests'} & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", source, model], cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
