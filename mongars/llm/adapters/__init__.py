"""An adapter per technology; `mongars/llm/llm.py` names them."""
