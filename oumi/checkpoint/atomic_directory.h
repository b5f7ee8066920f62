// Folders that appear and vanish in one step. Names: checkpoint-N.tmp-ID is being written, checkpoint-N.old-ID is being
// replaced, checkpoint-N.gone-ID is being deleted. None of them matches checkpoint-N. No torch here.
#pragma once

#include <filesystem>
#include <string>

namespace oumi {

enum class FolderState { kWriting, kReplaced, kDeleting };

// A name beside `path` that no other process uses.
std::filesystem::path sibling_folder(const std::filesystem::path& path, FolderState state);

// True for names made by sibling_folder; `original` is then the folder that they belong to.
bool parse_sibling_folder(const std::filesystem::path& path, FolderState& state, std::filesystem::path& original);

// Gives `temporary` the name `path` and makes that durable. An older folder of that name is exchanged atomically where the file
// system can (otherwise moved aside first) and then deleted. Throws EnvironmentError; until then the older one stays in place.
void publish_directory(const std::filesystem::path& temporary, const std::filesystem::path& path);

// Takes the name away first and deletes then, so that no half folder ever carries it. Throws EnvironmentError.
void remove_directory(const std::filesystem::path& path);

}  // namespace oumi
