"""The question whether a Langflow node is well, as a command for a shell on the node itself."""

COMMAND = (
    "curl -sf -o /dev/null -m 5 --cacert /etc/flowfleet/tls/ca.crt "
    "--resolve langflow.internal:7860:127.0.0.1 https://langflow.internal:7860/health_check"
)
