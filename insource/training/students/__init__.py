"""Students: the families that can learn a task. Choices in the constructor, data in `fit`, `to_artifact` at the end.

They know texts as they prepared them and class numbers; not tasks, thresholds or the registry.
"""
