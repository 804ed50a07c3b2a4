/* A driver of CUDA without a GPU: memory of the device is that of the host, copies are memcpy, calls are counted by name,
 * and a launch returns at once, or when whoever runs kernels is done. fake_driver.py builds and loads it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 512
static struct { char name[64]; long calls; } seen[MOST];
static int n_seen;
static void *context;
static char device[64];

static int counter(const char *name) {
    for (int i = 0; i < n_seen; i++)
        if (!strcmp(seen[i].name, name)) return i;
    if (n_seen == MOST) abort();
    snprintf(seen[n_seen].name, sizeof seen[0].name, "%s", name);
    return n_seen++;
}

long fake_calls(const char *name) { return seen[counter(name)].calls; }
void fake_reset(void) { for (int i = 0; i < n_seen; i++) seen[i].calls = 0; }

/* What the kernels of a run would leave, written when it is read back: every step made, and of loss and weight 1. */
static struct { uint64_t block, table, results; long numbers; } runs[MOST];
static int n_runs, steps_at, finished_at;

void fake_table(int steps, int finished) { steps_at = steps, finished_at = finished; }

void fake_run(uint64_t block, uint64_t table, uint64_t results, long numbers) {
    if (n_runs == MOST) abort();
    runs[n_runs].block = block, runs[n_runs].table = table;
    runs[n_runs].results = results, runs[n_runs++].numbers = numbers;
}

static void forget(uint64_t block) {
    for (int i = n_runs; i--;)
        if (runs[i].block == block) runs[i] = runs[--n_runs];
}

static void leave(uint64_t from, size_t size) {
    for (int i = 0; i < n_runs; i++)
        if (from <= runs[i].table && runs[i].table < from + size) {
            ((int64_t *)runs[i].table)[finished_at] = ((int64_t *)runs[i].table)[steps_at];
            for (long j = 0; j < runs[i].numbers; j++) ((float *)runs[i].results)[j] = 1.0f;
        }
}

/* Who runs the kernels, if anybody does. */
static void (*launcher)(const void *, void *, void **);
void fake_launcher(void *function) { launcher = function; }

#define CALL(name, parameters, ...)                     \
    int name parameters {                               \
        static int own = -1;                            \
        if (own < 0) own = counter(#name);              \
        seen[own].calls++;                              \
        __VA_ARGS__;                                    \
        return 0;                                       \
    }
#define MADE(name, parameters) CALL(name, parameters, *made = calloc(1, 64))
#define COPY(name, to, from, ...) CALL(name, (to target, from source, size_t size, ##__VA_ARGS__), \
    memcpy((void *)target, (const void *)source, size))

CALL(cuDriverGetVersion, (int *version), *version = 13000)
CALL(cuDeviceGetCount, (int *count), *count = 1)
CALL(cuDeviceGet, (int *found, int number), *found = number)
CALL(cuDeviceGetName, (char *name, int size, int number), snprintf(name, size, "no GPU"))
CALL(cuDeviceGetUuid_v2, (void *uuid, int number), memset(uuid, 1, 16))
CALL(cuDeviceTotalMem_v2, (size_t *bytes, int number), *bytes = (size_t)80 << 30)
CALL(cuDevicePrimaryCtxRetain, (void **made, int number), *made = device)
CALL(cuDevicePrimaryCtxGetState, (int number, unsigned *flags, int *active), *flags = 0; *active = 1)
CALL(cuCtxGetCurrent, (void **current), *current = context)
CALL(cuCtxSetCurrent, (void *chosen), context = chosen)
CALL(cuCtxPushCurrent_v2, (void *chosen), context = chosen)
CALL(cuCtxPopCurrent_v2, (void **popped), *popped = context)
CALL(cuCtxGetDevice, (int *number), *number = 0)
CALL(cuCtxGetDevice_v2, (int *number, void *of), *number = 0)
CALL(cuCtxGetId, (void *of, unsigned long long *number), *number = 1)
CALL(cuMemGetInfo_v2, (size_t *left, size_t *all), *left = *all = (size_t)80 << 30)
CALL(cuMemAlloc_v2, (uint64_t *made, size_t size), *made = (uint64_t)aligned_alloc(256, (size + 511) / 256 * 256);
     memset((void *)*made, 0, size))
CALL(cuMemFree_v2, (uint64_t at), forget(at); free((void *)at))
CALL(cuMemHostAlloc, (void **made, size_t size, unsigned flags), *made = malloc(size))
CALL(cuMemFreeHost, (void *at), free(at))
COPY(cuMemcpyHtoD_v2, uint64_t, void *)
COPY(cuMemcpyDtoH_v2, void *, uint64_t)
COPY(cuMemcpyDtoD_v2, uint64_t, uint64_t)
CALL(cuMemsetD8Async, (uint64_t target, unsigned char value, size_t size, void *stream), memset((void *)target, value, size))
COPY(cuMemcpyHtoDAsync_v2, uint64_t, void *, void *stream)
CALL(cuMemcpyDtoHAsync_v2, (void *target, uint64_t source, size_t size, void *stream),
     leave(source, size); memcpy(target, (const void *)source, size))
COPY(cuMemcpyDtoDAsync_v2, uint64_t, uint64_t, void *stream)
MADE(cuModuleLoadDataEx, (void **made, const void *image, unsigned count, void *options, void *values))
MADE(cuModuleGetFunction, (void **made, void *module, const char *name))
MADE(cuLibraryLoadData, (void **made, const void *code, void *a, void *b, unsigned c, void *d, void *e, unsigned f))
MADE(cuLibraryGetKernel, (void **made, void *library, const char *name))
MADE(cuLibraryGetModule, (void **made, void *library))
MADE(cuKernelGetFunction, (void **made, void *kernel))
CALL(cuKernelGetAttribute, (int *value, int which, void *kernel, int number), *value = 64)
CALL(cuFuncGetAttribute, (int *value, int which, void *function), *value = 64)
CALL(cuLaunchKernelEx, (const void *config, void *function, void **arguments, void **extra),
     if (launcher) launcher(config, function, arguments))
CALL(cuStreamSynchronize, (void *stream), )
CALL(cuStreamGetCtx, (void *stream, void **of), *of = device)
CALL(cuStreamGetCtx_v2, (void *stream, void **of, void **green), *of = device; *green = 0)
CALL(cuGetErrorName, (int error, const char **text), *text = "an error")
CALL(cuGetErrorString, (int error, const char **text), *text = "an error")
CALL(cuPointerGetAttribute, (void *value, int which, uint64_t at), *(uint64_t *)value = which == 1 ? (uint64_t)device : at)

int cuDeviceGetAttribute(int *value, int which, int number) {
    static const struct { int which, value; } facts[] = {  /* of an H100, by the numbers of CUdevice_attribute */
        {75, 9}, {76, 0}, {16, 132}, {10, 32}, {1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 2147483647}, {6, 65535},
        {7, 65535}, {8, 49152}, {97, 232448}, {12, 65536}, {82, 65536}};
    *value = 1;
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        if (facts[i].which == which) *value = facts[i].value;
    return 0;
}

static int nothing(void) { return 0; }

int cuGetProcAddress_v2(const char *name, void **found, int version, uint64_t flags, int *status) {
    static void *self;
    Dl_info here;
    char versioned[128];
    if (!self && dladdr((void *)fake_reset, &here)) self = dlopen(here.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    snprintf(versioned, sizeof versioned, "%s_v2", name);
    *found = dlsym(self, versioned);
    if (!*found) *found = dlsym(self, name);
    if (!*found) *found = (void *)nothing;
    if (status) *status = 0;
    return 0;
}

int cuGetProcAddress(const char *name, void **found, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, found, version, flags, 0);
}

CALL(cuInit, (unsigned flags), )
