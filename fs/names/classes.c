/* SPDX-License-Identifier: MIT */
#include "names/classes.h"

#include "document/class.h"
#include "log/class.h"
#include "plain/plain.h"
#include "rules/config.h"
#include "text/textlog.h"
#include "tree/classes.h"

const struct fs_class_ops *const fs_classes[] = {
    [JSONL_CLASS_PLAIN] = &fs_plain_class,
    [JSONL_CLASS_GOVERNED] = &fs_log_class,
    [JSONL_CLASS_REPLACE] = &fs_document_class,
    [JSONL_CLASS_TEXT] = &fs_text_class,
};
