"""The command of scripts/convert_config.py: a JSON config of SR3-PyTorch in, our YAML out."""

import tempfile
from pathlib import Path

from liif_core.config import load, sr3_json, yaml_text
from liif_core.data import sets  # noqa: F401  (what it imports registers itself)
from liif_core.data.registries import DATASETS
from liif_core.errors import UserError
from liif_core.system.arguments import Parser
from liif_core.system.files import check_new, check_writable, write_atomically

FFHQ = 70_000  # images


def _count(content: dict) -> int:
    """How many images an epoch has: those that are there, or that a data set of this name has."""
    data = content["datasets"]["train"]
    if data.get("data_len", -1) > 0:
        return data["data_len"]
    if str(data.get("name")).upper() == "FFHQ":
        return FFHQ
    spec = {
        "name": "prepared-lmdb" if data.get("datatype") == "lmdb" else "prepared-folders",
        "args": {"root_path": data["dataroot"], "low": data["l_resolution"], "high": data["r_resolution"]},
    }
    try:
        return len(DATASETS.make(spec))
    except UserError as error:
        raise UserError(f"how many images has an epoch? give --images: {error}") from None


def main() -> int:
    """Read, convert, write; returns the exit status."""
    parser = Parser(description="Turn a JSON config of SR3-PyTorch into a YAML config of this project.")
    parser.add_argument("input", type=Path, help="the .json")
    parser.add_argument("output", type=Path, help="the .yaml to write")
    parser.add_argument("--images", type=int, help="in the training set (default: counted; FFHQ has 70,000)")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    arguments = parser.parse_args()
    content = sr3_json.read(arguments.input)
    if arguments.output.suffix not in (".yaml", ".yml"):
        raise UserError(f"{arguments.output}: the output is a .yaml file")
    if arguments.images is not None and arguments.images < 1:
        raise UserError(f"--images: expected 1 or more, got {arguments.images}")
    check_new(arguments.output, arguments.input, arguments.overwrite)
    check_writable(arguments.output)
    converted = sr3_json.convert(content, arguments.images or _count(content), str(arguments.input))
    with tempfile.TemporaryDirectory() as folder:  # checked before it may take an older one's place
        trial = Path(folder) / arguments.output.name
        trial.write_text(yaml_text.dump(converted), encoding="utf-8")
        try:
            config = load.load(trial, "train")
        except UserError as error:
            raise UserError(f"{arguments.input}: {str(error).removeprefix(f'{trial}: ')}") from None
    write_atomically(arguments.output, yaml_text.dump(converted).encode())
    print(f"{arguments.input} -> {arguments.output}: {config.model.name}, {config.epoch_max} epochs")
    print("its path, wandb, gpu_ids and print_freq are words of the command line here: --save-dir, --wandb, --gpu")
    return 0
