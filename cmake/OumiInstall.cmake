# cmake --install: the binary, the two libraries, the headers, and a package that find_package(oumi) loads.
