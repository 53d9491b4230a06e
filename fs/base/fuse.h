/* SPDX-License-Identifier: MIT */
/* Sets the version of libfuse's interface that all of fs/ is written for. */
#ifndef FS_BASE_FUSE_H
#define FS_BASE_FUSE_H

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif

#include <fuse_lowlevel.h>

#endif
