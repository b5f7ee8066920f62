// Downloads from the Hub, shown on stderr.
#pragma once

namespace oumi::cli {

// On a terminal one line per file that counts up; elsewhere one line when a file of 10 MB or more is done. Notices are lines.
void show_downloads();

}  // namespace oumi::cli
