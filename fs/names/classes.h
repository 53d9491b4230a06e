/* SPDX-License-Identifier: MIT */
/* Lists the tables of all classes, for struct fs_mount. */
#ifndef FS_NAMES_CLASSES_H
#define FS_NAMES_CLASSES_H

struct fs_class_ops;

extern const struct fs_class_ops *const fs_classes[];

#endif
