/* Requests that give a log new content as a whole. The file's owner may make them, too.
 */
#ifndef FS_CONTROL_FILES_H
#define FS_CONTROL_FILES_H

#include "control.h"

/* {"path"}, descriptors: the new content, and what it was made from; without the second
 * it stands for all of the log. What was appended since is kept behind it. The reply
 * names the "archive" of the old content. -ESTALE: the log has become another meanwhile.
 */
int fs_control_replace(struct fs_control_request *r) jsonl_must_check;
/* {"path"}: what is no record goes to the quarantine. -EBUSY: somebody has it open for
 * writing. The reply has the counts of struct jsonl_repair_counts, and "archive" when
 * something was to be done. */
int fs_control_repair(struct fs_control_request *r) jsonl_must_check;

#endif
