#!/usr/bin/env python3
"""Holds the source tree to its layers.

The one source of truth is CMakeLists.txt: every `oumi_folder(NAME [TORCH_FREE] [DEPENDS ...])` says what a folder may include.
Prints `file:line: what is wrong; what to do` for each violation and exits with 1 when there is one.

    python3 scripts/check_layers.py              this repository
    python3 scripts/check_layers.py --root DIR   another tree
    python3 scripts/check_layers.py --self-test  plants one violation of each kind and expects to find exactly it
"""

import argparse
import pathlib
import re
import sys
import tempfile
from typing import NamedTuple

MAX_SOURCE_LINES = 800
MAX_MAIN_LINES = 80
SOURCE_FOLDERS = ("oumi", "cli", "examples", "tests", "benchmarks", "scripts", "cmake")
SOURCE_SUFFIXES = {".h", ".cpp", ".cu", ".cuh", ".proto", ".py", ".sh", ".cmake"}
CXX_SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}
TORCH = ("torch/", "ATen/", "c10/")
# torch's include folder holds other versions of these; they win over the system's in any file that sees torch.
SHADOWED_BY_TORCH = ("fmt/", "spdlog/", "google/protobuf/")

CMAKE_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|#[^\n]*')
CXX_TOKEN = re.compile(
    r'R"(?P<tag>[^\s()\\]{0,16})\(.*?\)(?P=tag)"'  # raw string
    r'|"(?:\\.|[^"\\\n])*"'                        # string, or the name of an include
    r"|//[^\n]*|/\*.*?\*/",                        # comments
    re.DOTALL,
)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"\n]+)[>"]', re.MULTILINE)


class Violation(NamedTuple):
    path: str
    line: int
    text: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.text}"


class Folder(NamedTuple):
    name: str
    line: int
    torch_free: bool
    depends: tuple


class Include(NamedTuple):
    line: int
    name: str


def blank(text):
    """The same number of lines with nothing on them."""
    return "\n" * text.count("\n")


def read_folders(root, found):
    """Name -> Folder, in the order of CMakeLists.txt."""
    path = root / "CMakeLists.txt"
    if not path.is_file():
        found.append(Violation("CMakeLists.txt", 1, "expected the oumi_folder(...) lines, got no file; run this in the repository"))
        return {}
    text = CMAKE_TOKEN.sub(lambda m: m.group() if m.group().startswith('"') else "", path.read_text(encoding="utf-8"))
    folders = {}
    for call in re.finditer(r"^[ \t]*oumi_folder\s*\(([^)]*)\)", text, re.MULTILINE):
        line = text.count("\n", 0, call.start()) + 1
        name, *rest = call.group(1).split()
        depends, keyword, torch_free = [], None, False
        for word in rest:
            if word in ("TORCH_FREE", "DEPENDS", "LIBRARIES"):
                keyword = word
                torch_free |= word == "TORCH_FREE"
            elif keyword == "DEPENDS":
                depends.append(word)
        if name in folders:
            found.append(Violation("CMakeLists.txt", line, f"folder '{name}' is declared twice; remove one of the lines"))
            continue
        folders[name] = Folder(name, line, torch_free, tuple(depends))
    if not folders:
        found.append(Violation("CMakeLists.txt", 1, "expected at least one oumi_folder(...) line, got none; declare the folders of oumi/"))
    return folders


def closure(name, folders):
    """Everything below `name`, itself included."""
    seen, todo = set(), [name]
    while todo:
        current = todo.pop()
        if current not in seen and current in folders:
            seen.add(current)
            todo.extend(folders[current].depends)
    return seen


def path_between(start, goal, folders):
    """One chain of DEPENDS from `start` to `goal`; None when there is none."""
    todo, seen = [[start]], {start}
    while todo:
        chain = todo.pop(0)
        for below in folders[chain[-1]].depends:
            if below == goal:
                return chain + [below]
            if below in folders and below not in seen:
                seen.add(below)
                todo.append(chain + [below])
    return None


def check_declarations(root, folders, found):
    declared = set()
    for folder in folders.values():
        def report(text, line=folder.line):
            found.append(Violation("CMakeLists.txt", line, text))

        cycle = path_between(folder.name, folder.name, folders)
        if cycle:
            report(f"folders form a cycle: {' -> '.join(cycle)}; move what both need into a folder below them")
        for below in folder.depends:
            if below not in folders:
                report(f"folder '{folder.name}' DEPENDS on '{below}', which no oumi_folder(...) declares; declare it above, or correct the name")
            elif below not in declared and not cycle:
                report(f"folder '{folder.name}' DEPENDS on '{below}', which is declared further down; list the lowest folder first")
        if folder.torch_free:
            for below in sorted(closure(folder.name, folders) - {folder.name}):
                if not folders[below].torch_free:
                    report(f"folder '{folder.name}' is TORCH_FREE but reaches '{below}', which is not; drop the dependency")
        if folder.name != "trainer" and "trainer" in closure(folder.name, folders):
            report(f"folder '{folder.name}' depends on trainer; nothing in oumi/ may see the trainer: turn the dependency round")
        declared.add(folder.name)
    if (root / "oumi").is_dir():
        for path in sorted((root / "oumi").iterdir()):
            if path.is_dir() and path.name not in folders and any(p.suffix in CXX_SUFFIXES for p in path.rglob("*")):
                found.append(Violation(f"oumi/{path.name}", 1, "holds sources but no oumi_folder(...) line of CMakeLists.txt declares it; add one in its layer"))


def includes_of(path):
    text = path.read_text(encoding="utf-8", errors="replace")

    def keep_strings(match):
        return match.group() if match.group().startswith('"') else blank(match.group())

    text = CXX_TOKEN.sub(keep_strings, text)
    return [Include(text.count("\n", 0, m.start(1)) + 1, m.group(1)) for m in INCLUDE.finditer(text)]


def check_folder_include(relative, include, folder, folders, found):
    """One include of a file of oumi/<folder>."""
    def report(text):
        found.append(Violation(relative, include.line, text))

    name = include.name
    if name.startswith("cli/"):
        report(f"oumi/{folder.name} includes {name}; the library never sees the command line: pass in what it needs as a value")
    elif name == "oumi/oumi.h":
        report(f"oumi/{folder.name} includes oumi/oumi.h, which is for users and sees every layer; include the headers that are needed")
    elif name.startswith("oumi/"):
        target = name.split("/")[1]
        allowed = closure(folder.name, folders)
        if target == "trainer" and folder.name != "trainer":
            report(f"oumi/{folder.name} includes {name}; nothing below may see the trainer: use a callback or move the shared part down")
        elif target not in folders:
            report(f"includes {name}, but no oumi_folder(...) declares '{target}'; correct the path, or declare the folder")
        elif target not in allowed:
            may = ", ".join(n for n in folders if n in allowed and n != folder.name) or "itself alone"
            report(f"oumi/{folder.name} may not include oumi/{target} (it sees {may}); move the code, or add '{target}' to DEPENDS if it lies below")
    elif name.startswith(TORCH) and folder.torch_free:
        report(f"oumi/{folder.name} is TORCH_FREE but includes {name}; pass plain values or spans, or move the code to a folder that sees torch")
    elif name.startswith(SHADOWED_BY_TORCH) and not folder.torch_free:
        report(f"includes {name} where torch's own copy of that library wins; keep it behind a header of a TORCH_FREE folder")


def check_includes(root, folders, found):
    for top in ("oumi", "cli"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix not in CXX_SUFFIXES or not path.is_file():
                continue
            relative = path.relative_to(root).as_posix()
            parts = relative.split("/")
            folder = folders.get(parts[1]) if top == "oumi" and len(parts) > 2 else None
            for include in includes_of(path):
                if include.name == "torch/torch.h":
                    found.append(Violation(relative, include.line, "includes torch/torch.h, which costs 15 s and more a file; include ATen/ops/<op>.h and what else is used"))
                elif not include.name.startswith(("oumi/", "cli/")) and (path.parent / include.name).is_file():
                    found.append(Violation(relative, include.line, f"includes {include.name} by a relative path; name it from the repository's root, as in \"{path.parent.relative_to(root).as_posix()}/...\""))
                elif folder is not None:
                    check_folder_include(relative, include, folder, folders, found)


def check_executable(root, folders, found):
    """The sources of oumi-cpp itself, and the cli/ headers that they reach, stay free of LibTorch."""
    cmake = root / "cli" / "CMakeLists.txt"
    call = re.search(r"add_executable\s*\(\s*oumi-cpp\s+([^)]*)\)", cmake.read_text(encoding="utf-8")) if cmake.is_file() else None
    if call is None:
        return
    todo = [root / "cli" / name for name in call.group(1).split()]
    seen = set()
    while todo:
        path = todo.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        for include in includes_of(path):
            parts = include.name.split("/")
            if include.name.startswith("cli/"):
                todo.append(root / include.name)
            heavy = include.name.startswith(TORCH) or (parts[0] == "oumi" and not (len(parts) > 2 and parts[1] in folders and folders[parts[1]].torch_free))
            if heavy:
                found.append(Violation(path.relative_to(root).as_posix(), include.line, f"is part of the torch-free executable but includes {include.name}; move that code to a file of liboumi_cli.so"))


def check_sizes(root, found):
    for top in SOURCE_FOLDERS:
        for path in sorted((root / top).rglob("*")):
            if path.suffix not in SOURCE_SUFFIXES or not path.is_file():
                continue
            relative = path.relative_to(root).as_posix()
            lines = len(path.read_bytes().splitlines())
            limit = MAX_MAIN_LINES if relative == "cli/main.cpp" else MAX_SOURCE_LINES
            if lines > limit:
                advice = "move the work into a verb's own file" if relative == "cli/main.cpp" else "split it by concern"
                found.append(Violation(relative, limit + 1, f"expected at most {limit} lines, got {lines}; {advice}"))


def check(root):
    found = []
    folders = read_folders(root, found)
    if folders:
        check_declarations(root, folders, found)
        check_includes(root, folders, found)
        check_executable(root, folders, found)
        check_sizes(root, found)
    return found


# --- self-test ---

GOOD_TREE = {
    "CMakeLists.txt": "# oumi_folder(ghost DEPENDS trainer)\n"
                      "oumi_folder(base TORCH_FREE LIBRARIES x)\n"
                      "oumi_folder(config TORCH_FREE DEPENDS base LIBRARIES yaml-cpp)\n"
                      "oumi_folder(tensors\n            DEPENDS base)  # a comment\n"
                      "oumi_folder(models DEPENDS tensors LIBRARIES trainer)\n"
                      "oumi_folder(trainer DEPENDS models config)\n",
    "oumi/oumi.h": '#include "oumi/trainer/trainer.h"\n',
    "oumi/base/error.h": '#include <string>\n// #include <torch/x.h>\n/*\n#include "oumi/trainer/trainer.h"\n*/\n',
    "oumi/base/error_test.cpp": 'const char* text = R"(\n#include "cli/main.h"\n)";\nconst char* url = "http://x";\n',
    "oumi/config/config.h": '#include "oumi/base/error.h"\n#include <fmt/format.h>\n',
    "oumi/tensors/batch.h": "#include <ATen/core/Tensor.h>\n",
    "oumi/models/model.h": '#include "oumi/base/error.h"\n#include "oumi/tensors/batch.h"\n',
    "oumi/trainer/trainer.h": '#include "oumi/models/model.h"\n#include "oumi/config/config.h"\n',
    "cli/CMakeLists.txt": "add_executable(oumi-cpp main.cpp)\n",
    "cli/main.cpp": '#include "cli/line.h"\nint main() {}\n',
    "cli/line.h": '#include "oumi/config/config.h"\n',
    "cli/train.cpp": '#include "oumi/trainer/trainer.h"\n#include <ATen/ops/relu.h>\n',
}

# (what is planted, {file: text to append or, with "=" in front, the whole text}, expected file:line, expected words)
PLANTED = [
    ("an upward include", {"oumi/tensors/batch.h": '#include "oumi/models/model.h"\n'}, "oumi/tensors/batch.h:2", "may not include oumi/models"),
    ("a sideways include", {"oumi/models/model.h": '#  include <oumi/config/config.h>\n'}, "oumi/models/model.h:3", "may not include oumi/config"),
    ("an include in a test", {"oumi/base/error_test.cpp": '#include "oumi/config/config.h"\n'}, "oumi/base/error_test.cpp:5", "may not include oumi/config"),
    ("an include in a subfolder", {"oumi/models/a/a.h": '\n#include "oumi/config/config.h"\n'}, "oumi/models/a/a.h:2", "may not include oumi/config"),
    ("trainer from below", {"oumi/models/model.h": '#include "oumi/trainer/trainer.h"\n'}, "oumi/models/model.h:3", "nothing below may see the trainer"),
    ("cli from below", {"oumi/trainer/trainer.h": '#include "cli/line.h"\n'}, "oumi/trainer/trainer.h:3", "never sees the command line"),
    ("the umbrella header from below", {"oumi/trainer/trainer.h": '#include "oumi/oumi.h"\n'}, "oumi/trainer/trainer.h:3", "is for users"),
    ("torch in a torch-free folder", {"oumi/config/config.h": "#include <torch/types.h>\n"}, "oumi/config/config.h:3", "TORCH_FREE"),
    ("ATen in a torch-free folder", {"oumi/base/error.h": "#include <ATen/ops/add.h>\n"}, "oumi/base/error.h:6", "TORCH_FREE"),
    ("c10 in a torch-free folder", {"oumi/base/error.h": "#include <c10/core/Device.h>\n"}, "oumi/base/error.h:6", "TORCH_FREE"),
    ("a formatter beside torch", {"oumi/tensors/batch.h": "#include <spdlog/spdlog.h>\n"}, "oumi/tensors/batch.h:2", "torch's own copy"),
    ("torch/torch.h", {"oumi/tensors/batch.h": "#include <torch/torch.h>\n"}, "oumi/tensors/batch.h:2", "torch/torch.h"),
    ("a relative include", {"oumi/tensors/batch.h": '#include "../models/model.h"\n'}, "oumi/tensors/batch.h:2", "relative path"),
    ("an undeclared target", {"oumi/models/model.h": '#include "oumi/nothing/x.h"\n'}, "oumi/models/model.h:3", "no oumi_folder(...) declares 'nothing'"),
    ("an undeclared folder", {"oumi/extra/x.h": "\n"}, "oumi/extra:1", "no oumi_folder(...) line"),
    ("an unknown dependency", {"CMakeLists.txt": "oumi_folder(hub DEPENDS nothing)\n"}, "CMakeLists.txt:8", "DEPENDS on 'nothing'"),
    ("a folder declared twice", {"CMakeLists.txt": "oumi_folder(base)\n"}, "CMakeLists.txt:8", "declared twice"),
    ("a wrong order", {"CMakeLists.txt": "oumi_folder(a DEPENDS b)\noumi_folder(b)\n"}, "CMakeLists.txt:8", "declared further down"),
    ("a folder above the trainer", {"CMakeLists.txt": "oumi_folder(a DEPENDS trainer)\n"}, "CMakeLists.txt:8", "depends on trainer"),
    ("a torch-free folder above torch", {"CMakeLists.txt": "oumi_folder(a TORCH_FREE DEPENDS tensors)\n"}, "CMakeLists.txt:8", "reaches 'tensors'"),
    ("a cycle of two", {"CMakeLists.txt": "oumi_folder(a DEPENDS b)\noumi_folder(b DEPENDS a)\n"}, "CMakeLists.txt:8", "cycle: a -> b -> a"),
    ("a cycle of one", {"CMakeLists.txt": "oumi_folder(a DEPENDS a)\n"}, "CMakeLists.txt:8", "cycle: a -> a"),
    ("no folders at all", {"CMakeLists.txt": "=project(x)\n"}, "CMakeLists.txt:1", "at least one oumi_folder"),
    ("a long main", {"cli/main.cpp": "\n" * (MAX_MAIN_LINES - 1)}, "cli/main.cpp:81", "expected at most 80 lines, got 81"),
    ("a long source", {"oumi/base/error.h": "\n" * (MAX_SOURCE_LINES - 4)}, "oumi/base/error.h:801", "expected at most 800 lines, got 801"),
    ("torch in the executable", {"cli/line.h": '#include "oumi/tensors/batch.h"\n'}, "cli/line.h:2", "torch-free executable"),
]

# Just inside the limits: nothing may be found.
ALLOWED = [
    ("a main of 80 lines", {"cli/main.cpp": "\n" * (MAX_MAIN_LINES - 2)}),
    ("a source of 800 lines", {"oumi/base/error.h": "\n" * (MAX_SOURCE_LINES - 5)}),
    ("two folders over one", {"CMakeLists.txt": "oumi_folder(a DEPENDS base)\noumi_folder(b DEPENDS a base)\n"}),
]


def check_planted(changes):
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name in {**GOOD_TREE, **changes}:
            text = GOOD_TREE.get(name, "")
            change = changes.get(name, "")
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(change[1:] if change.startswith("=") else text + change, encoding="utf-8")
        return check(root)


def self_test():
    failures = []
    for what, changes in [("the clean tree", {}), *ALLOWED]:
        failures += [f"{what}: expected no violation, got {violation}" for violation in check_planted(changes)]
    for what, changes, place, words in PLANTED:
        found = [str(violation) for violation in check_planted(changes)]
        if not any(text.startswith(place + ": ") and words in text for text in found):
            failures.append(f"{what}: expected '{place}: ...{words}...', got {found or 'nothing'}")
        # A cycle breaks both of its lines; every other violation stands alone, so nothing else may be blamed.
        elif len(found) > 1 and "cycle" not in what:
            failures.append(f"{what}: expected one violation, got {found}")
    for failure in failures:
        print(f"self-test: {failure}", file=sys.stderr)
    if not failures:
        print(f"check_layers: self-test passed, {len(PLANTED)} planted violations found, {len(ALLOWED) + 1} clean trees accepted")
    return 1 if failures else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    if arguments.self_test:
        return self_test()
    found = check(arguments.root.resolve())
    for violation in sorted(found):
        print(violation, file=sys.stderr)
    if found:
        print(f"check_layers: {len(found)} violation{'s' if len(found) > 1 else ''}; docs/architecture.md explains the layers", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
