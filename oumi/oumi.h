// Everything that a program or plug-in with a model of its own usually needs. For anything else include its own header.
#pragma once

#include "oumi/base/error.h"
#include "oumi/base/kwargs.h"
#include "oumi/config/training_config.h"
#include "oumi/data/build_dataset.h"
#include "oumi/data/data_loader.h"
#include "oumi/data/dataset.h"
#include "oumi/models/adapt.h"
#include "oumi/models/build_model.h"
#include "oumi/models/model.h"
#include "oumi/models/pretrained.h"
#include "oumi/models/registry.h"
#include "oumi/nn/layers.h"
#include "oumi/plugin/plugin.h"
#include "oumi/trainer/trainer.h"
