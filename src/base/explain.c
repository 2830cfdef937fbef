#include "base/explain.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int explain(char *why, size_t why_size, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (why_size)
		vsnprintf(why, why_size, format, args);
	va_end(args);
	return error;
}

const char *errno_text(int error)
{
	const char *text = strerrordesc_np(error);

	return text ? text : "unknown error";
}
