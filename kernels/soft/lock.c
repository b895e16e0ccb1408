/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two locks. Adaptive: table_lock is held so briefly that spinning is cheaper than
 * sleeping.
 */
#include "kernels/soft/lock.h"

pthread_mutex_t vmm_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t table_lock = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
