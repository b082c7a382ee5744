"""From numbers to tables, figures, the HTML report and MLflow. Loads no model."""
