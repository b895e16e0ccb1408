/* SPDX-License-Identifier: Apache-2.0 */
/*
 * query: the daemon's records of a kind, as they are on the wire, and what is in them, by
 * wire_records.h: the dict RECORDS of the module: of each kind its number, the bytes of a record,
 * and (name, form, offset, bytes) of each member that is not padding; and the dict NAMES: of forms
 * whose numbers have names these, by number.
 */
#pragma once

#include "client/python/native/native.h"

/* query(connection, number of a kind): bytes, all records, each with all members */
PyObject *query_walk(PyObject *module, PyObject *args);
