/* Four losses and their gradients in C, as a backend for lossref: no library but the C library's own.
 *
 *     cc -std=c99 -O2 -ffp-contract=off -o losses losses.c -lm
 *     lossref run 'exec:./losses'
 *
 * It speaks lossref-protocol/1 (docs/protocol.md): a line of JSON in, a line of JSON out. Inputs are float32 or float64, computed in
 * double; whatever else is asked, probability targets among it, is unsupported. The processor is little-endian, as all that matter are.
 */
#define _POSIX_C_SOURCE 200809L /* getline */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char DESCRIPTION[] =
    "{\"protocol\":\"lossref-protocol/1\",\"name\":\"c-example\",\"versions\":{\"c-example\":\"1.0\"},"
    "\"operations\":[\"log_softmax\",\"softmax_cross_entropy\",\"entropy\",\"kl_divergence\"],"
    "\"promises\":{\"float32\":{\"accuracy\":\"A\",\"compute\":\"float64\"},\"float64\":{\"accuracy\":\"A\",\"compute\":\"float64\"}}}";

/* ---- memory: what a request takes is freed after its answer ---- */

static void *taken[64];
static int many;

static void stop(const char *why, const char *what) {
    fprintf(stderr, "%s %s\n", why, what);
    exit(1);
}

static void *take(size_t bytes) {
    void *block = calloc(bytes ? bytes : 1, 1);
    if (block == NULL || many == 64)
        stop("no memory for", "this request");
    return taken[many++] = block;
}

/* ---- JSON: a position is a pointer to a value's first character; the judge writes no spaces, and sends what the schema says ---- */

static const char *past(const char *at) {
    int depth = 0;
    do {
        if (*at == '"')
            for (at++; *at != '"'; at++)
                at += *at == '\\';
        depth += *at == '{' || *at == '[';
        depth -= *at == '}' || *at == ']';
        at++;
    } while (depth > 0 || (*at != ',' && *at != '}' && *at != ']' && *at != ':' && *at != '\n' && *at != '\0'));
    return at;
}

/* The value of a field, or NULL for one that isn't there or is null. */
static const char *field(const char *object, const char *name) {
    const size_t length = strlen(name);
    for (const char *at = object + 1; at[-1] != '}' && *at == '"';) {
        const char *value = past(at) + 1;
        if (strncmp(at + 1, name, length) == 0 && at[1 + length] == '"')
            return strncmp(value, "null", 4) == 0 ? NULL : value;
        at = past(value) + 1;
    }
    return NULL;
}

static int is(const char *value, const char *text) {
    const size_t length = strlen(text);
    return value != NULL && *value == '"' && strncmp(value + 1, text, length) == 0 && value[1 + length] == '"';
}

/* ---- tensors: numbers as double, indices as int64 ---- */

typedef struct {
    int narrow, axes; /* narrow: float32, else float64 */
    size_t shape[8], size;
    double *value;
    int64_t *index;
} Tensor;

static size_t product(const size_t *shape, int from, int to) { return from == to ? 1 : shape[from] * product(shape, from + 1, to); }

static Tensor like(const Tensor *t, int axes) {
    Tensor made = *t;
    made.axes = axes;
    made.size = product(t->shape, 0, axes);
    made.value = take(made.size * sizeof(double));
    return made;
}

static int digit(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

static unsigned char *bytes_of(const char *json, size_t length) {
    unsigned char *bytes = take(length);
    const char *data = field(json, "data"), *name = field(json, "file");
    if (data != NULL) {
        for (size_t i = 0; i < length; i++)
            bytes[i] = (unsigned char)(digit(data[1 + 2 * i]) << 4 | digit(data[2 + 2 * i]));
        return bytes;
    }
    char path[4096];
    snprintf(path, sizeof path, "%.*s", (int)(past(name) - name - 2), name + 1);
    FILE *file = fopen(path, "rb");
    if (file == NULL || fread(bytes, 1, length, file) != length)
        stop("can't read", path);
    fclose(file);
    return bytes;
}

/* Reads a tensor; 0 for a dtype that we don't have. */
static int tensor(const char *json, Tensor *t) {
    const char *dtype = field(json, "dtype"), *at = field(json, "shape") + 1;
    const int whole = is(dtype, "int64"), narrow = is(dtype, "float32");
    if (!whole && !narrow && !is(dtype, "float64"))
        return 0;
    memset(t, 0, sizeof *t);
    t->narrow = narrow;
    for (char *end; *at != ']'; at = end + (*end == ','))
        t->shape[t->axes++] = strtoull(at, &end, 10);
    t->size = product(t->shape, 0, t->axes);
    unsigned char *bytes = bytes_of(json, t->size * (narrow ? 4 : 8));
    t->index = whole ? (int64_t *)bytes : NULL;
    t->value = whole ? NULL : narrow ? take(t->size * sizeof(double)) : (double *)bytes;
    for (size_t i = 0; narrow && i < t->size; i++)
        t->value[i] = ((float *)bytes)[i];
    return 1;
}

static void print(const Tensor *t) {
    printf("{\"dtype\":\"%s\",\"shape\":[", t->narrow ? "float32" : "float64");
    for (int axis = 0; axis < t->axes; axis++)
        printf("%s%zu", axis ? "," : "", t->shape[axis]);
    printf("],\"data\":\"");
    for (size_t i = 0; i < t->size; i++) {
        const float rounded = (float)t->value[i];
        const unsigned char *byte = t->narrow ? (const unsigned char *)&rounded : (const unsigned char *)&t->value[i];
        for (int k = 0; k < (t->narrow ? 4 : 8); k++)
            printf("%02x", byte[k]);
    }
    printf("\"}");
}

/* ---- the losses: V numbers that lie `step` apart are a row ---- */

typedef struct {
    Tensor in[3], cotangent, output, gradient[2]; /* the inputs in the operation's order */
    int differentiate;
    const char *parameters;
} Call;

/* The sum of exp(x_v - x_top) but for the top itself; nan for a row that has no softmax. */
static double rest(const double *x, size_t V, size_t step, double *top) {
    size_t m = 0;
    double sum = 0.0;
    for (size_t v = 0; v < V; v++) {
        if (isnan(x[v * step]))
            return NAN;
        m = x[v * step] > x[m * step] ? v : m;
    }
    *top = x[m * step];
    for (size_t v = 0; v < V; v++)
        sum += v == m ? 0.0 : exp(x[v * step] - *top);
    return isinf(*top) ? NAN : sum;
}

static const char *log_softmax(Call *call) {
    const Tensor *x = &call->in[0];
    const size_t V = x->shape[x->axes - 1];
    call->output = like(x, x->axes);
    call->gradient[0] = like(x, x->axes);
    for (size_t at = 0; at < x->size; at += V) {
        double top = 0.0, total = 0.0, *y = call->output.value + at;
        const double others = rest(x->value + at, V, 1, &top);
        for (size_t v = 0; v < V; v++) {
            y[v] = x->value[at + v] - top - log1p(others);
            total += call->differentiate ? call->cotangent.value[at + v] : 0.0;
        }
        for (size_t v = 0; call->differentiate && v < V; v++)
            call->gradient[0].value[at + v] = call->cotangent.value[at + v] - exp(x->value[at + v] - top) / (1.0 + others) * total;
    }
    return NULL;
}

static double ratio(double p, double q) { /* ln(p/q), where the quotient itself may leave the range */
    const double quotient = p / q;
    return quotient > 1e-300 && quotient < 1e300 ? log(quotient) : log(p) - log(q);
}

/* Entropy, or with two inputs the Kullback-Leibler divergence. */
static const char *distributions(Call *call, int two) {
    const Tensor *p = &call->in[0], *q = &call->in[1];
    const size_t V = p->shape[p->axes - 1];
    call->output = like(p, p->axes - 1);
    for (int i = 0; i <= two; i++)
        call->gradient[i] = like(p, p->axes);
    for (size_t at = 0; at < p->size; at++) {
        const double a = p->value[at], b = two ? q->value[at] : 1.0, g = call->differentiate ? call->cotangent.value[at / V] : 0.0;
        const double term = a < 0.0 || b < 0.0 || isnan(b) ? NAN : a == 0.0 ? 0.0 : a * (two ? ratio(a, b) : -log(a));
        call->output.value[at / V] += term;
        if (g != 0.0)
            call->gradient[0].value[at] = g * (two ? ratio(a, b) + 1.0 : -(log(a) + 1.0));
        if (g != 0.0 && two)
            call->gradient[1].value[at] = -g * (a / b);
    }
    return NULL;
}

/* Class indices, with label smoothing, class weights, an index to ignore, and the three reductions. */
static const char *cross_entropy(Call *call) {
    const Tensor *x = &call->in[0], *target = &call->in[1], *weight = &call->in[2];
    const char *ignored = field(call->parameters, "ignore_index"), *reduction = field(call->parameters, "reduction");
    const double smoothing = strtod(field(call->parameters, "label_smoothing"), NULL);
    const size_t V = x->shape[1], step = product(x->shape, 2, x->axes);
    const int reduced = !is(reduction, "none"), mean = is(reduction, "mean");
    double sum = 0.0, divisor = mean ? 0.0 : 1.0;
    call->output = like(reduced ? x : target, reduced ? 0 : target->axes);
    call->output.narrow = x->narrow;
    call->gradient[0] = like(x, x->axes);
    for (int pass = 0; pass < 2; pass++) { /* the mean's divisor, then all else */
        for (size_t i = 0; i < target->size; i++) {
            const int64_t y = target->index[i];
            const size_t first = i / step * step * V + i % step;
            if (ignored != NULL && y == strtoll(ignored, NULL, 10))
                continue;
            if (y < 0 || (size_t)y >= V)
                return "a target is no class";
            if (pass == 0) {
                divisor += !mean ? 0.0 : weight->value ? weight->value[y] : 1.0;
                continue;
            }
            double top = 0.0, loss = 0.0, mass = 0.0;
            const double others = rest(x->value + first, V, step, &top);
            const double g = call->differentiate ? call->cotangent.value[reduced ? 0 : i] : 0.0;
            for (int after = 0; after < 2; after++) { /* the row's loss, then its gradient */
                for (size_t v = 0; v < V; v++) {
                    const double gap = top - x->value[first + v * step], w = weight->value ? weight->value[v] : 1.0;
                    const double t = w * ((v == (size_t)y ? 1.0 - smoothing : 0.0) + smoothing / (double)V);
                    if (after == 0) {
                        mass += t;
                        loss += t == 0.0 ? 0.0 : t * (log1p(others) + gap);
                    } else if (g != 0.0) {
                        call->gradient[0].value[first + v * step] = g / divisor * (exp(-gap) / (1.0 + others) * mass - t);
                    }
                }
            }
            loss = isnan(others) ? NAN : loss;
            sum += loss;
            call->output.value[reduced ? 0 : i] = loss;
        }
    }
    if (reduced)
        call->output.value[0] = sum / divisor;
    return NULL;
}

/* ---- the messages ---- */

static void answer(const char *request) {
    static const char *const names[] = {"logits", "target", "weight", NULL}, *const pair[] = {"p", "q", NULL};
    const char *operation = field(request, "operation"), *inputs = field(request, "inputs"), *g = field(request, "cotangent");
    const long long id = strtoll(field(request, "id"), NULL, 10);
    const int two = is(operation, "kl_divergence"), over_p = two || is(operation, "entropy");
    const char *const *name = over_p ? pair : names, *failed, *missing = NULL;
    Call call = {.differentiate = g != NULL, .parameters = field(request, "parameters")};
    for (int i = 0; name[i] != NULL; i++) {
        const char *json = field(inputs, name[i]);
        if (json != NULL && !tensor(json, &call.in[i]))
            missing = "no such dtype";
    }
    if (!over_p && call.in[1].value != NULL)
        missing = "no probability targets";
    if (missing == NULL && g != NULL && !tensor(g, &call.cotangent))
        missing = "no such dtype";
    failed = missing != NULL ? missing : is(operation, "log_softmax") ? log_softmax(&call)
             : over_p ? distributions(&call, two) : cross_entropy(&call);
    if (failed != NULL) {
        printf("{\"id\":%lld,\"%s\":\"%s\"}\n", id, missing != NULL ? "unsupported" : "error", failed);
        return;
    }
    printf("{\"id\":%lld,\"output\":", id);
    print(&call.output);
    for (int i = 0; g != NULL && i <= two; i++) {
        printf("%s\"%s\":", i ? "," : ",\"gradients\":{", name[i]);
        print(&call.gradient[i]);
    }
    printf(g != NULL ? "}}\n" : "}\n");
}

int main(void) {
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0 && !is(field(line, "cmd"), "stop")) {
        if (is(field(line, "cmd"), "hello"))
            printf("%s\n", DESCRIPTION);
        else
            answer(line);
        fflush(stdout);
        while (many > 0)
            free(taken[--many]);
    }
    return 0;
}
