# What test-benchmark.sh and test-div2k.sh share: every set of SETS at every scale, by default those of SCALES, which
# are LIIF's; configs/test has 1.5, 2.5 and 3.5 as well. The framework may also stand in FRAMEWORK.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/scripts/python.sh"
if [ $# -lt 2 ]; then
    echo "usage: bash scripts/$(basename "$0") MODEL GPU [torch|jittor] [SCALE ...]     GPU: a number, or cpu" >&2
    echo "scales: $SCALES without any; 1.5 2.5 3.5 are there too" >&2
    exit 2
fi
MODEL=$1 GPU=$2
shift 2
case ${1:-} in
    [a-z]*) FRAMEWORK=$1 && shift ;;
esac
[ $# -gt 0 ] || set -- $SCALES
CONFIGS=()
for SET in $SETS; do
    for SCALE; do
        CONFIGS+=("test/test-$SET-$SCALE.yaml")
    done
done
exec "$PYTHON" "$ROOT/scripts/batch_test_simple.py" --brief --models "$MODEL" --gpu "$GPU" \
    --frameworks "${FRAMEWORK:-torch}" --configs "${CONFIGS[@]}"
