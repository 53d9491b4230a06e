/* SPDX-License-Identifier: MIT */
#ifndef FS_DOCUMENT_ONTO_H
#define FS_DOCUMENT_ONTO_H

#include "base/error.h"

struct fs_renaming;

/* Renames a file to the name of a document (fs_class_ops.rename_into). */
int fs_document_rename_into(struct fs_renaming *r) jsonl_must_check;

#endif
