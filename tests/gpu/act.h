/* SPDX-License-Identifier: Apache-2.0 */
/*
 * act: how an order is carried out: what was asked, what it is done with, and what will be
 * answered. act.c has the orders about slabs and fences, act_share.c those about what else
 * processes share.
 */
#pragma once

#include "tests/gpu/actor.h"
#include "tests/gpu/rig.h"

#include <stdbool.h>

/* What was asked, what came with it, and what will be answered. */
struct scene {
	struct order order;
	struct rig *rig;
	struct slab_map *slab;
	int fd; /* came with the order; -1: none */
	struct answer answer;
	int answer_fd; /* goes with the answer, and is closed after that if `closes` */
	bool closes;
};

/* Remembers what failed. True: nothing did. */
bool act_check(struct scene *scene, const char *call, CUresult result);
#define ACT(scene, name, ...) act_check((scene), #name, (scene)->rig->driver->name(__VA_ARGS__))

void act_run_kernel(struct scene *scene);
void act_make_rdma(struct scene *scene);
void act_fork(struct scene *scene);
void act_ipc_make(struct scene *scene);
void act_ipc_open(struct scene *scene);
void act_ipc_close(struct scene *scene);
void act_copy_batch(struct scene *scene);
