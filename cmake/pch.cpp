// Compiles the precompiled header (cmake/pch.h) once for all targets.
