// Between records of the control plane's protocol and our own.
//
// Threads  safe; pure.
// Errors   kInvalidArgument names the field.
#pragma once

#include "base/status.h"
#include "kvstore/types.h"
#include "passband/v1/control.pb.h"
#include "services/server/model_table.h"
#include "services/server/profile_table.h"

namespace passband::server {

StatusOr<ModelRecord> FromMessage(const v1::Model& message);
void ToMessage(const ModelRecord& model, v1::Model& out);
void ToMessage(const ProfileTable::Entry& entry, v1::ProfileSummary& out);
void ToMessage(const SequenceInfo& info, v1::Sequence& out);
void ToMessage(const StoreStats& stats, v1::Memory& out);

}  // namespace passband::server
