// Makes the model known to oumi-cpp: oumi-cpp train -c config.yaml --plugin build/libcustom_model.so
#include "custom_model.h"

OUMI_PLUGIN { oumi::register_model<CustomModel>(); }
