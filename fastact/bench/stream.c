/* The streaming limit: a loop that loads and stores as many arrays as an operation, and computes nothing. */

#include <stddef.h>

#if defined(__AVX512F__)
#include <immintrin.h>
typedef __m512i vector;
#define STREAM _mm512_stream_si512
#elif defined(__AVX__)
#include <immintrin.h>
typedef __m256i vector;
#define STREAM _mm256_stream_si256
#elif defined(__SSE2__)
#include <emmintrin.h>
typedef __m128i vector;
#define STREAM _mm_stream_si128
#else
typedef long long vector __attribute__((vector_size(16)));
#endif

#ifdef STREAM
const int can_stream = 1;
#else
const int can_stream = 0;
#define STREAM(target, value) (*(target) = (value))
#define _mm_sfence()
#endif

#ifdef __clang__
const char *compiler = "clang " __clang_version__;
#else
const char *compiler = "gcc " __VERSION__;
#endif

/* Inlined with constants, so that nothing is decided in the loop. */
static inline __attribute__((always_inline)) void
move(const vector *a, const vector *b, vector *y, vector *z, size_t begin, size_t end, int stream)
{
    for (size_t i = begin; i < end; i++) {
        vector first = a[i], second = b ? b[i] : first;
        if (b && !z)
            first ^= second;
        if (stream)
            STREAM(y + i, first);
        else
            y[i] = first;
        if (z && stream)
            STREAM(z + i, second);
        else if (z)
            z[i] = second;
    }
    if (stream)
        _mm_sfence();
}

static void
move_part(const vector *a, const vector *b, vector *y, vector *z, size_t begin, size_t end, int stream)
{
    if (stream && z)
        move(a, b, y, z, begin, end, 1);
    else if (stream && b)
        move(a, b, y, NULL, begin, end, 1);
    else if (stream)
        move(a, NULL, y, NULL, begin, end, 1);
    else if (z)
        move(a, b, y, z, begin, end, 0);
    else if (b)
        move(a, b, y, NULL, begin, end, 0);
    else
        move(a, NULL, y, NULL, begin, end, 0);
}

/* Move one or two arrays, aligned to 64 bytes and that many bytes long; b, z or both may be NULL. */
void
move_arrays(const void *a, const void *b, void *y, void *z, size_t bytes, int threads, int stream)
{
    size_t count = bytes / sizeof(vector);
    if (threads == 1) {
        move_part(a, b, y, z, 0, count, stream);
        return;
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; part++)
        move_part(a, b, y, z, count * part / threads, count * (part + 1) / threads, stream);
}
