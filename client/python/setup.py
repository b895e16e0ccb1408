# SPDX-License-Identifier: Apache-2.0
"""Builds hbm._native: with libhbm in it, of the folder where make has put it ($HBM_BUILD, build/ of
the tree), or else with the installed one, found by pkg-config. What is made lies there, too."""

import os
import re
import subprocess
import tempfile

from setuptools import Extension, setup

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get("HBM_BUILD") or os.path.join(TREE, "build"))
ARCHIVE = os.path.join(BUILD, "libhbm.a")
MAKEFILE = os.path.join(TREE, "Makefile")


def installed(option):
    command = ["pkg-config", option, "libhbm"]
    try:
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        raise SystemExit(f"there is neither {ARCHIVE} (make makes it) nor an installed libhbm")


def version():
    if os.path.exists(MAKEFILE):
        with open(MAKEFILE) as makefile:
            return re.search(r"^VERSION := (\S+)$", makefile.read(), re.M).group(1)
    return installed("--modversion")[0]


in_tree = os.path.exists(ARCHIVE)
work = os.path.join(BUILD, "python", "work") if in_tree else tempfile.mkdtemp()
os.makedirs(work, exist_ok=True)
names = sorted(os.listdir(os.path.join(HERE, "native")))

native = Extension(
    "hbm._native",
    sources=[f"native/{name}" for name in names if name.endswith(".c")],
    depends=[f"native/{name}" for name in names if name.endswith(".h")] + ([ARCHIVE] if in_tree else []),
    define_macros=[("_GNU_SOURCE", None), ("Py_LIMITED_API", "0x030b0000"), ("HBM_VERSION", f'"{version()}"')],
    include_dirs=[TREE, os.path.join(TREE, "include")] if in_tree else [TREE],
    extra_compile_args=["-std=gnu11", "-Wall", "-Wextra", "-fvisibility=hidden"]
    + ([] if in_tree else installed("--cflags")),
    extra_objects=[ARCHIVE] if in_tree else [],
    extra_link_args=["-pthread", "-ldl", "-Wl,--exclude-libs,ALL"] + ([] if in_tree else installed("--libs")),
    py_limited_api=True,
)

setup(
    version=version(),
    ext_modules=[native],
    options={
        "build": {"build_base": work},
        "egg_info": {"egg_base": work},
        "bdist_wheel": {"py_limited_api": "cp311"},
    },
)
