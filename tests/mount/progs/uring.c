/* SPDX-License-Identifier: MIT */
/* One write through io_uring, by the bare system calls.
 *
 *   uring FILE append|plain OFFSET TEXT
 *
 * Prints the result of the completion: bytes, or a negative errno. Status 77: the kernel
 * has no io_uring for us. */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct io_uring_params p = {0};
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	char *sq, *cq;
	unsigned *tail, *array, *head;
	int ring, fd;

	if (argc != 5)
		return 2;
	fd = open(argv[1], O_WRONLY | (strcmp(argv[2], "append") ? 0 : O_APPEND));
	if (fd < 0)
		return 3;
	ring = (int)syscall(SYS_io_uring_setup, 4, &p);
	if (ring < 0)
		return 77;
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * sizeof(unsigned),
		  PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring,
		  IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(*cqe),
		  PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring,
		  IORING_OFF_CQ_RING);
	sqe = mmap(NULL, p.sq_entries * sizeof(*sqe), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || sqe == MAP_FAILED)
		return 4;
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_WRITE;
	sqe->fd = fd;
	sqe->addr = (unsigned long)argv[4];
	sqe->len = (unsigned)strlen(argv[4]);
	sqe->off = strtoull(argv[3], NULL, 10);
	tail = (unsigned *)(sq + p.sq_off.tail);
	array = (unsigned *)(sq + p.sq_off.array);
	array[*tail & (p.sq_entries - 1)] = 0;
	atomic_store((_Atomic unsigned *)tail, *tail + 1);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		return 5;
	head = (unsigned *)(cq + p.cq_off.head);
	cqe = (struct io_uring_cqe *)(cq + p.cq_off.cqes) + (*head & (p.cq_entries - 1));
	printf("%d\n", cqe->res);
	return 0;
}
