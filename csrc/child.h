/* child.h: what the parts of starting a child share. */
#ifndef TCCP_CHILD_H
#define TCCP_CHILD_H

#include "tccp.h"

/* Confine this thread to the files that the child is granted; 0, or -1 with errno. Only system calls. */
int tccp_landlock(const tccp_child *child);

#endif
