// Calls one callback point on every callback. Internal to trainer/.
#pragma once

#include "oumi/trainer/run.h"

namespace oumi {

template <class Notify>
void Trainer::notify(Notify&& notify_one) {
  CallbackContext context{args_, plan_, state_, control_, *model_, run_ ? run_->optimizer.get() : nullptr};
  for (const CallbackPtr& callback : callbacks_) notify_one(*callback, context);
}

}  // namespace oumi
