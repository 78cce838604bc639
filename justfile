# Every verb of the project; run them as `./just VERB`. `$@` keeps quotes and spaces.

set positional-arguments

python_folders := "libs services cli deploy tests tools benchmarks"

# List the recipes
@_default:
    just --justfile "{{ justfile() }}" --list --unsorted

# Start NATS, the sandbox vendor and the services; run a first task
[no-exit-message]
@up *ARGS:
    python -m embedded up "$@"

# Stop what `up` started
[no-exit-message]
@down *ARGS:
    python -m embedded down "$@"

# Show the services' logs
[no-exit-message]
@logs *ARGS:
    python -m embedded logs "$@"

# Run the demo task again
[no-exit-message]
@demo *ARGS:
    python -m embedded demo "$@"

# Give an employee a task: ./just task invoice-clerk "Check a.txt" --file a.txt
[no-exit-message]
@task *ARGS:
    dectl task run "$@"

# The command line client
[no-exit-message]
@dectl *ARGS:
    dectl "$@"

# Format the code
@fmt:
    ruff check --quiet --fix-only --select I {{ python_folders }}
    ruff format {{ python_folders }}

# Formatting, lint, types, import rules and tidiness
@check:
    ruff format --check {{ python_folders }}
    ruff check {{ python_folders }}
    pyright
    lint-imports
    pytest tests/tidy

# Exactly what CI runs
@test: check
    pytest -n 2 --dist loadgroup --ignore tests/tidy

# Golden wire samples, and the suites against real servers
@contract *ARGS:
    pytest tests/contract "$@"

# Run the simulation: ./just simulate --seeds 1000, ./just simulate --seed 17
[no-exit-message]
@simulate *ARGS:
    python -m testkit.simulate "$@"

# Prove the promises under load and faults: ./just prove, ./just prove leases
[no-exit-message]
@prove *ARGS:
    python -m testkit.prove "$@"

# Prove the books under thousands of vendor faults: ./just storm --calls 20000 --seed 7
[no-exit-message]
@storm *ARGS:
    python -m testkit.storm "$@"

# Measure side by side with peers: ./just bench broker, ./just bench streams
[no-exit-message]
@bench *ARGS:
    python benchmarks/broker.py "$@"

# Import each service with only what it declares
@isolate *ARGS:
    python tools/isolate.py "$@"

# Regenerate openapi.json and the subject documents
@docs *ARGS:
    python tools/docs.py "$@"

# Compile requirements.in into requirements.lock; --upgrade takes newer releases
@lock *ARGS:
    sh tools/lock.sh "$@"

# Start a decision record: ./just new-decision "Title"
@new-decision *TITLE:
    python tools/new_decision.py "$@"
