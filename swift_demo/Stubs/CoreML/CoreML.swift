public class MLModel {}
