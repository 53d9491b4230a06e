/* SPDX-License-Identifier: MIT */
/* Does nothing: what is linked into it is the test. */
int main(void)
{
	return 0;
}
