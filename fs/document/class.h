/* SPDX-License-Identifier: MIT */
/* Has the table of decisions for class replace: files with one JSON document, which
 * programs write anew as a whole. */
#ifndef FS_DOCUMENT_CLASS_H
#define FS_DOCUMENT_CLASS_H

struct fs_class_ops;

extern const struct fs_class_ops fs_document_class;

#endif
