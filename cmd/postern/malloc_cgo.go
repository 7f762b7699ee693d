//go:build cgo && linux

package main

/*
#include <malloc.h>

static void tune(void) {
#ifdef M_ARENA_MAX
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
}
*/
import "C"

// tuneMalloc has C's allocator keep one arena, and give large blocks back when they are free. Only
// the store's memory is from there: blocks of some megabytes, each of which would stay in the
// arena of whichever thread had asked for it, so that memory grew for hours.
func tuneMalloc() { C.tune() }
