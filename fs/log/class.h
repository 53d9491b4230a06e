/* SPDX-License-Identifier: MIT */
/* Has the table of decisions for class governed: logs. */
#ifndef FS_LOG_CLASS_H
#define FS_LOG_CLASS_H

#include "tree/classes.h"

extern const struct fs_class_ops fs_log_class;

#endif
