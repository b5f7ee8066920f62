// PyTorch's own files (.pt, .pth, .bin: zip archives around a pickle), without running what is in them.
//
// A pickle is a program, and unpickling one in Python can do anything. This reader knows containers, numbers, text, tensors and
// NumPy arrays, and refuses any other class or function that the file names. No Python is involved.
#pragma once

#include <ATen/core/ivalue.h>

#include <filesystem>
#include <string>

#include "oumi/checkpoint/output_file.h"
#include "oumi/tensors/tensor_dict.h"

namespace oumi {

// The file's object. Python's dict and OrderedDict become GenericDict, list becomes a list, tuple (and torch.Size) a tuple; str
// and bytes a string; int, float, bool and None themselves; dtypes and devices their names; NumPy arrays and Parameters
// tensors. Tensors are on the CPU wherever they were; those that shared a storage share it again. Throws UserError: for what is
// no such file (files of torch before 1.6 included), for a refused class by its name, for damage.
c10::IValue read_torch_file(const std::filesystem::path& path);

// A state dict: the file's dict of tensors, or the one under its key "state_dict", "model_state_dict" or "model".
// Throws UserError naming the first entry that is no tensor.
StateDict load_torch_state_dict(const std::filesystem::path& path);

// The same for a folder that pytorch_model.bin.index.json describes.
StateDict load_sharded_torch_state_dict(const std::filesystem::path& directory);

// Writes what torch.load(path, weights_only=True) reads: dicts, lists, tuples, tensors (storages shared as they are), numbers,
// strings, None. Whole or absent; equal values give equal bytes. Throws UserError for other values, EnvironmentError for the
// disk.
FileDigest write_torch_file(const std::filesystem::path& path, const c10::IValue& value);

}  // namespace oumi
