#include "oumi/distributed/process_group.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <future>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>

#include "oumi/base/error.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"
#include "oumi/distributed/c10d.h"
#include "oumi/distributed/gpu_backend.h"
#include "oumi/distributed/peer_watch.h"
#include "oumi/distributed/shared_memory.h"
#include "oumi/distributed/shared_memory_backend.h"

namespace oumi {
namespace {

constexpr const char* kPeersHint =
    "look at the output of the other ranks: the first one to fail says why; a rank that computes for longer needs a higher "
    "training.ddp_timeout";

constexpr const char* kSameHint =
    "start every rank with the same config, files and version; a model of your own has to do the same on every rank";

// Until the others have told where they are now.
constexpr auto kTellTime = std::chrono::milliseconds(1500);

// The address of this machine on the way to rank 0: what the other ranks can reach it by. Its host name often is not.
std::string own_address(const RankLayout& layout) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_DGRAM;
  if (::getaddrinfo(layout.master_addr.c_str(), std::to_string(layout.master_port).c_str(), &hints, &found) != 0)
    return "127.0.0.1";
  std::string address = "127.0.0.1";
  const int descriptor = ::socket(found->ai_family, SOCK_DGRAM, 0);
  sockaddr_storage own{};
  socklen_t size = sizeof own;
  // Connecting a datagram socket sends nothing; it picks the route.
  if (descriptor >= 0 && ::connect(descriptor, found->ai_addr, found->ai_addrlen) == 0 &&
      ::getsockname(descriptor, reinterpret_cast<sockaddr*>(&own), &size) == 0) {
    char text[NI_MAXHOST];
    if (::getnameinfo(reinterpret_cast<sockaddr*>(&own), size, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0)
      address = text;
  }
  if (descriptor >= 0) ::close(descriptor);
  ::freeaddrinfo(found);
  return address;
}

// The first line of a message, without the "[file:line] " that Gloo puts before it.
std::string reason_of(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  std::string text = torch_error != nullptr ? torch_error->what_without_backtrace() : error.what();
  if (const auto line = text.find('\n'); line != std::string::npos) text.resize(line);
  if (text.starts_with("[/") || text.starts_with("[..")) {
    if (const auto end = text.find("] "); end != std::string::npos) text.erase(0, end + 2);
  }
  return text;
}

std::shared_ptr<gloo::transport::Device> gloo_device(const RankLayout& layout) {
  if (const char* name = std::getenv("GLOO_SOCKET_IFNAME"); name != nullptr && *name != 0) {
    return c10d::ProcessGroupGloo::createDeviceForInterface(name);
  }
  return c10d::ProcessGroupGloo::createDeviceForHostname(own_address(layout));
}

// Which ranks have not called `add` on their key yet.
std::string missing_ranks(c10d::Store& store, const std::vector<std::string>& keys) {
  std::vector<std::string> missing;
  for (std::size_t rank = 0; rank < keys.size(); ++rank) {
    if (!store.check({keys[rank]})) missing.push_back(cat(rank));
  }
  return join(missing, ", ");
}

Json pack_error(const std::exception& error) {
  const auto* known = dynamic_cast<const Error*>(&error);
  if (known == nullptr) return {{"code", exit_code_for(error)}, {"component", ""}, {"message", error.what()}, {"hint", ""}};
  return {{"code", static_cast<int>(known->exit_code())},
          {"component", known->component()},
          {"message", known->message()},
          {"hint", known->hint()}};
}

[[noreturn]] void throw_packed(const std::string& text, std::int64_t rank) {
  const Json packed = Json::parse(text);
  const std::string component = packed["component"],
                    message = cat(packed["message"].get<std::string>(), " (on rank ", rank, ")"), hint = packed["hint"];
  if (packed["code"] == static_cast<int>(ExitCode::kUser)) throw UserError(component, message, hint);
  if (packed["code"] == static_cast<int>(ExitCode::kEnvironment)) throw EnvironmentError(component, message, hint);
  throw InternalError(component + " " + message);
}

// Of the group that was connected last.
std::mutex last_watch_mutex;
std::weak_ptr<PeerWatch> last_watch;

}  // namespace

struct ProcessGroup::State {
  RankLayout layout;
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroup> group;
  std::shared_ptr<PeerWatch> watch;
  ProcessGroupOptions options;
  std::int64_t world_rank = 0;  // for messages
  std::string name = "all ranks";
  std::int64_t calls = 0;
  int depth = 0;                               // of guards within each other
  bool aside = false;                          // of another thread: the watch and the clock are for the main one
  std::shared_ptr<std::atomic<double>> spent;  // in collectives: one for a group and its subgroups
  std::string meeting = "group";               // of subgroups
  int subgroups = 0;                           // made so far: each meets at a place of its own
  std::int64_t calls_digest = 0;               // of the names and sizes of the calls since max() compared them

  // Of layout's ranks, which meet under `prefix`.
  void connect_backends(const std::string& prefix);
  // Before a collective in which this rank has `bytes` for each of the others.
  void note_call(const char* what, std::int64_t bytes) {
    const auto call =
        static_cast<std::int64_t>(XXH3_64bits_withSeed(what, std::strlen(what), static_cast<XXH64_hash_t>(bytes)));
    // 62 bits: its negative has to fit too.
    calls_digest =
        static_cast<std::int64_t>(XXH3_64bits_withSeed(&call, sizeof call, static_cast<XXH64_hash_t>(calls_digest)) >> 2);
  }
};

void ProcessGroup::State::connect_backends(const std::string& prefix) {
  const auto size = static_cast<int>(layout.world_size), rank = static_cast<int>(layout.rank);
  try {
    const auto meeting = c10::make_intrusive<c10d::PrefixStore>(prefix, store);
    group = c10::make_intrusive<c10d::ProcessGroup>(meeting, rank, size);
    c10::intrusive_ptr<c10d::Backend> backend = make_shared_memory_backend(meeting, rank, size, options.timeout);
    const auto kind = backend ? c10d::ProcessGroup::BackendType::CUSTOM : c10d::ProcessGroup::BackendType::GLOO;
    if (!backend) {
      auto gloo_options = c10d::ProcessGroupGloo::Options::create(options.timeout);
      gloo_options->devices.push_back(gloo_device(layout));
      backend = c10::make_intrusive<c10d::ProcessGroupGloo>(meeting, rank, size, gloo_options);
    }
    group->setBackend(c10::DeviceType::CPU, kind, backend);
    group->setDefaultBackend(kind);
    if (options.use_nccl) add_gpu_backend(*group, meeting, rank, size, options.timeout);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw EnvironmentError(cat("rank ", world_rank), cat("cannot connect to the other ranks: ", reason_of(error)),
                           "check the network between the machines; GLOO_SOCKET_IFNAME names the interface to use");
  }
}

std::shared_ptr<ProcessGroup> ProcessGroup::subgroup(const std::vector<std::int64_t>& members, const std::string& name) {
  return group_of(members, name, /*aside=*/false);
}

std::shared_ptr<ProcessGroup> ProcessGroup::for_another_thread(const std::string& name) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(world_size()));
  std::iota(all.begin(), all.end(), 0);
  return group_of(all, name, /*aside=*/true);
}

std::shared_ptr<ProcessGroup> ProcessGroup::group_of(const std::vector<std::int64_t>& members, const std::string& name,
                                                     bool aside) {
  auto result = std::make_shared<ProcessGroup>();
  const std::string meeting = cat(state_->meeting, "/", name, "#", state_->subgroups++);
  if (members.size() < 2) return result;
  State& state = *result->state_;
  state.layout = state_->layout;
  state.layout.world_size = static_cast<std::int64_t>(members.size());
  state.layout.rank = std::find(members.begin(), members.end(), rank()) - members.begin();
  state.store = state_->store;
  state.watch = state_->watch;
  state.options = state_->options;
  state.aside = aside;
  if (aside) state.options.use_nccl = false;
  state.world_rank = state_->world_rank;
  state.name = name;
  state.spent = state_->spent;
  state.meeting = meeting;
  state.connect_backends(meeting);
  return result;
}

ProcessGroup::ProcessGroup() : state_(std::make_unique<State>()) {}
ProcessGroup::~ProcessGroup() = default;

std::int64_t ProcessGroup::rank() const noexcept { return state_->layout.rank; }
std::int64_t ProcessGroup::world_size() const noexcept { return state_->layout.world_size; }
const RankLayout& ProcessGroup::layout() const noexcept { return state_->layout; }
c10d::ProcessGroup* ProcessGroup::c10d() const noexcept { return state_->group.get(); }

void ProcessGroup::set_completed_step(std::int64_t step) noexcept {
  if (state_->watch) state_->watch->set_step(step);
}

std::shared_ptr<ProcessGroup> ProcessGroup::connect(const RankLayout& layout, const ProcessGroupOptions& options) {
  auto group = std::make_shared<ProcessGroup>();
  State& state = *group->state_;
  state.layout = layout;
  state.options = options;
  state.world_rank = layout.rank;
  state.spent = std::make_shared<std::atomic<double>>(0);
  if (layout.world_size == 1) return group;
  const std::string me = cat("rank ", layout.rank), address = cat(layout.master_addr, ":", layout.master_port);
  const auto size = static_cast<int>(layout.world_size), rank = static_cast<int>(layout.rank);

  // c10d prints warnings and errors with stack traces about peers that are gone; our errors say it once, in words.
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = 3;  // fatal ones alone
  c10::intrusive_ptr<c10d::TCPStore> tcp;
  try {
    c10d::TCPStoreOptions store;
    store.port = static_cast<std::uint16_t>(layout.master_port);
    store.isServer = layout.rank == 0 && !layout.store_is_external;
    store.numWorkers = static_cast<std::size_t>(size);
    store.waitWorkers = false;
    store.timeout = options.join_timeout;
    tcp = c10::make_intrusive<c10d::TCPStore>(layout.master_addr, store);
  } catch (const std::exception& error) {
    const bool server = layout.rank == 0 && !layout.store_is_external;
    const std::string reason = reason_of(error);
    throw EnvironmentError(
        me, cat(server ? "cannot listen at " : "cannot reach rank 0 at ", address, ": ", reason),
        reason.find("Network is unreachable") != std::string::npos
            ? "no network interface leads there: see `ip address`; loopback may be down, as in a new network namespace"
        : server ? "another program may use the port: set MASTER_PORT to a free one"
                 : "check MASTER_ADDR and MASTER_PORT, and whether rank 0 has started");
  }
  state.store = c10::make_intrusive<c10d::PrefixStore>("oumi/" + layout.attempt, tcp);

  std::vector<std::string> keys;
  for (int i = 0; i < size; ++i) keys.push_back(cat("joined/", i));
  try {
    if (state.store->add(keys[static_cast<std::size_t>(rank)], 1) > 1) {
      throw EnvironmentError(me, cat("two processes have this rank at ", address),
                             "give each process its own RANK, or another MASTER_PORT");
    }
    state.store->wait(keys, options.join_timeout);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    std::string missing;
    try {
      missing = missing_ranks(*state.store, keys);
    } catch (const std::exception&) {
    }
    throw EnvironmentError(me,
                           missing.empty() ? cat("lost rank 0 at ", address, ": ", reason_of(error))
                                           : cat("expected ", size, " ranks at ", address, " within ",
                                                 options.join_timeout.count() / 1000.0, " s, got no rank ", missing),
                           "check that every rank has started, with the same WORLD_SIZE, MASTER_ADDR and MASTER_PORT");
  }
  state.watch = std::make_shared<PeerWatch>(c10::make_intrusive<c10d::PrefixStore>("oumi/" + layout.attempt, tcp->clone()),
                                            layout.rank, layout.world_size);
  state.connect_backends("ranks");  // last: rank 0 may end, and its store with it, once all have got here
  const std::lock_guard lock(last_watch_mutex);
  last_watch = state.watch;
  return group;
}

namespace {

// What the watch knows; a store whose machine is cut off answers nothing, so it is asked from a thread that may be left behind.
std::string describe_peers(const std::shared_ptr<PeerWatch>& watch) {
  const auto task = std::make_shared<std::packaged_task<std::string()>>([watch] { return watch->describe(); });
  auto answer = task->get_future();
  std::thread([task] { (*task)(); }).detach();
  if (answer.wait_for(std::chrono::seconds(6)) == std::future_status::ready) return answer.get();
  return "no answer from the machine of rank 0, which keeps the ranks' meeting point";
}

}  // namespace

void ProcessGroup::fail(const char* what, const std::exception& cause) {
  const bool differ = dynamic_cast<const CallsDiffer*>(&cause) != nullptr;
  if (differ) std::this_thread::sleep_for(kTellTime);
  const std::string peers = describe_peers(state_->watch);
  const bool other_sizes = peers.starts_with(PeerWatch::kOtherSizes);
  // The others ask the store at rank 0 at the same time.
  if (differ && state_->world_rank == 0) std::this_thread::sleep_for(kTellTime);
  throw EnvironmentError(cat("rank ", state_->world_rank),
                         cat(what, " failed after step ", state_->watch->step(), ": expected ",
                             other_sizes ? std::string("as many bytes from all ranks") : cat("all ", world_size(), " ranks"),
                             ", got ", peers, " (", reason_of(cause), ")"),
                         other_sizes ? kSameHint : kPeersHint);
}

std::optional<EnvironmentError> explain_lost_thread(const std::exception& error) {
  const std::string reason = reason_of(error);
  if (reason.find("op.preamble.") == std::string::npos) return std::nullopt;
  std::shared_ptr<PeerWatch> watch;
  {
    const std::lock_guard lock(last_watch_mutex);
    watch = last_watch.lock();
  }
  if (!watch) return std::nullopt;
  std::this_thread::sleep_for(kTellTime);
  const std::string operation = watch->place().operation;
  return EnvironmentError(cat("rank ", watch->rank()),
                          cat(operation.empty() ? "a collective" : operation, " failed after step ", watch->step(),
                              ": expected as many bytes from all ranks, got ", describe_peers(watch), " (", reason, ")"),
                          kSameHint);
}

void ProcessGroup::guard(const char* what, const std::function<void()>& work, std::int64_t bytes) {
  if (!state_->group) {
    work();
    return;
  }
  const auto began = std::chrono::steady_clock::now();
  struct Depth {
    int& depth;
    ~Depth() { --depth; }
  } inside{state_->depth};
  const bool outermost = ++state_->depth == 1 && !state_->aside;
  if (outermost) state_->watch->enter({state_->name, ++state_->calls, what, bytes});
  try {
    work();
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    fail(what, error);
  }
  if (!outermost) return;
  state_->watch->leave();
  *state_->spent = *state_->spent + std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

double ProcessGroup::seconds_in_collectives() const noexcept { return state_->spent ? state_->spent->load() : 0; }

namespace {

c10::intrusive_ptr<c10d::Work> reduce_over(c10d::ProcessGroup& group, const Tensor& tensor, ReduceKind kind) {
  std::vector<Tensor> tensors{tensor};
  c10d::AllreduceOptions options;
  options.reduceOp = kind == ReduceKind::kSum ? c10d::ReduceOp::SUM : c10d::ReduceOp::MAX;
  return group.allreduce(tensors, options);
}

}  // namespace

void ProcessGroup::all_reduce(const Tensor& tensor, ReduceKind kind, const char* what) {
  if (!state_->group) return;
  const auto bytes = static_cast<std::int64_t>(tensor.nbytes());
  state_->note_call(what, bytes);
  guard(what, [&] { reduce_over(*state_->group, tensor, kind)->wait(); }, bytes);
}

void ProcessGroup::broadcast(const Tensor& tensor, std::int64_t root, const char* what) {
  if (!state_->group || tensor.numel() == 0) return;
  state_->note_call(what, static_cast<std::int64_t>(tensor.nbytes()));
  guard(
      what,
      [&] {
        std::vector<Tensor> tensors{tensor};
        c10d::BroadcastOptions options;
        options.rootRank = root;
        state_->group->broadcast(tensors, options)->wait();
      },
      static_cast<std::int64_t>(tensor.nbytes()));
}

template <class Start>
PendingCollective ProcessGroup::start(const Tensor& output, const Tensor& input, const char* what, Start&& start) {
  if (!state_->group) {
    output.copy_(input);
    return {};
  }
  c10::intrusive_ptr<c10d::Work> work;
  const auto bytes = static_cast<std::int64_t>(std::min(output.nbytes(), input.nbytes()));
  state_->note_call(what, bytes);
  guard(
      what,
      [&] {
        Tensor to = output, from = input;
        work = start(*state_->group, to, from);
      },
      bytes);
  return PendingCollective([this, work, what, output, input, bytes] { guard(what, [&] { work->wait(); }, bytes); });
}

PendingCollective ProcessGroup::start_all_reduce(const Tensor& tensor, ReduceKind kind, const char* what) {
  if (!state_->group) return {};
  return start(tensor, tensor, what,
               [kind](c10d::ProcessGroup& group, Tensor& to, Tensor&) { return reduce_over(group, to, kind); });
}

PendingCollective ProcessGroup::all_gather(const Tensor& output, const Tensor& input, const char* what) {
  return start(output, input, what,
               [](c10d::ProcessGroup& group, Tensor& to, Tensor& from) { return group._allgather_base(to, from); });
}

PendingCollective ProcessGroup::reduce_scatter(const Tensor& output, const Tensor& input, const char* what) {
  return start(output, input, what,
               [](c10d::ProcessGroup& group, Tensor& to, Tensor& from) { return group._reduce_scatter_base(to, from); });
}

void ProcessGroup::barrier(const char* what) {
  if (!state_->group) return;
  // As a reduction: c10d's barrier picks a device by itself.
  all_reduce(at::zeros({1}), ReduceKind::kSum, what);
}

void ProcessGroup::sum(std::vector<double>& values, const char* what) {
  if (!state_->group) return;
  all_reduce(at::from_blob(values.data(), {static_cast<std::int64_t>(values.size())}, at::kDouble), ReduceKind::kSum, what);
}

std::vector<std::int64_t> ProcessGroup::max(std::vector<std::int64_t> values, const char* what) {
  if (!state_->group) return values;
  // The greatest digest and, negated, the smallest: Gloo says nothing to a rank that gets less than it has room for.
  const std::int64_t digest = std::exchange(state_->calls_digest, 0);
  values.insert(values.end(), {digest, -digest});
  all_reduce(at::from_blob(values.data(), {static_cast<std::int64_t>(values.size())}, at::kLong), ReduceKind::kMax, what);
  state_->calls_digest = 0;
  const std::int64_t smallest = -values.back(), greatest = values[values.size() - 2];
  values.resize(values.size() - 2);
  if (smallest == greatest) return values;
  throw EnvironmentError(cat("rank ", state_->world_rank),
                         cat(what, " found after step ", state_->watch->step(),
                             " that ranks have made different calls, or with other sizes: expected the same on all ",
                             world_size(), " ranks, got on this one ", state_->watch->recent_calls(/*with_bytes=*/true)),
                         kSameHint);
}

std::string ProcessGroup::broadcast_text(const std::string& text, const char* what) {
  if (!state_->group) return text;
  Tensor size = at::zeros({1}, at::kLong);
  if (is_main()) size.fill_(static_cast<std::int64_t>(text.size()));
  broadcast(size, 0, what);
  std::string result = text;
  result.resize(static_cast<std::size_t>(size.item<std::int64_t>()));
  if (!result.empty()) broadcast(at::from_blob(result.data(), {static_cast<std::int64_t>(result.size())}, at::kByte), 0, what);
  return result;
}

std::vector<std::string> ProcessGroup::gather_text(const std::string& text, const char* what) {
  if (!state_->group) return {text};
  const std::int64_t longest = max({static_cast<std::int64_t>(text.size())}, what).front();
  // Each row: eight bytes of length, then the text, padded to the longest.
  const std::int64_t row = longest + 8;
  std::string own(static_cast<std::size_t>(row), '\0'), all(static_cast<std::size_t>(row * world_size()), '\0');
  const std::uint64_t length = text.size();
  std::memcpy(own.data(), &length, 8);
  std::memcpy(own.data() + 8, text.data(), text.size());
  all_gather(at::from_blob(all.data(), {row * world_size()}, at::kByte), at::from_blob(own.data(), {row}, at::kByte), what)
      .wait();
  std::vector<std::string> texts;
  for (std::int64_t i = 0; i < world_size(); ++i) {
    std::uint64_t size = 0;
    std::memcpy(&size, all.data() + i * row, 8);
    texts.push_back(all.substr(static_cast<std::size_t>(i * row + 8), size));
  }
  return texts;
}

void ProcessGroup::on_main(const std::function<void()>& work, const char* what) {
  if (!state_->group) {
    work();
    return;
  }
  std::exception_ptr failure;
  std::string packed;
  if (is_main()) {
    try {
      work();
    } catch (const std::exception& error) {
      failure = std::current_exception();
      packed = pack_error(error).dump(-1, ' ', false, Json::error_handler_t::replace);
    }
  }
  packed = broadcast_text(packed, what);
  if (failure) std::rethrow_exception(failure);
  if (!packed.empty()) throw_packed(packed, 0);
}

void ProcessGroup::on_all(const std::function<void()>& work, const char* what) {
  if (!state_->group) {
    work();
    return;
  }
  std::exception_ptr failure;
  std::string packed;
  try {
    work();
  } catch (const std::exception& error) {
    failure = std::current_exception();
    packed = pack_error(error).dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  // A number first: texts travel only when something went wrong.
  const bool failed = max({packed.empty() ? 0 : 1}, what).front() != 0;
  if (!failed) return;
  const std::vector<std::string> all = gather_text(packed, what);
  if (failure) std::rethrow_exception(failure);
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!all[i].empty()) throw_packed(all[i], static_cast<std::int64_t>(i));
  }
}

}  // namespace oumi
