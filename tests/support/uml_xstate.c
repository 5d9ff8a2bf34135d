/* Preloaded into User-Mode-Linux: its 6.1 kernel restores floating-point state from a buffer of fixed
 * size, which processors with larger state (AMX) refuse. Give them a whole buffer. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static _Alignas(64) char whole[1 << 16];

long ptrace(enum __ptrace_request request, ...)
{
	va_list rest;
	va_start(rest, request);
	long pid = va_arg(rest, int), address = va_arg(rest, long), data = va_arg(rest, long);
	va_end(rest);

	long word;
	if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER)
		return syscall(SYS_ptrace, (long)request, pid, address, &word) < 0 ? -1 : word;

	long result = syscall(SYS_ptrace, (long)request, pid, address, data);
	if (result == 0 || request != PTRACE_SETREGSET)
		return result;
	const struct iovec *part = (const struct iovec *)data;
	struct iovec all = {whole, sizeof whole};
	if (syscall(SYS_ptrace, (long)PTRACE_GETREGSET, pid, address, &all) < 0)
		return result;
	memcpy(whole, part->iov_base, part->iov_len);
	return syscall(SYS_ptrace, (long)PTRACE_SETREGSET, pid, address, &all);
}
